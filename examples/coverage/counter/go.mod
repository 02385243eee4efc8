module example.test/counter

go 1.21
