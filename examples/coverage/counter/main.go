// Counts requests.
package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
)

var count atomic.Int64

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, count.Load())
	})
	http.HandleFunc("/add", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, count.Add(1))
	})
	http.HandleFunc("/never", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "nobody asks for this")
	})
	http.ListenAndServe(":8080", nil)
}
