//go:build tools

// What is compiled from this module: buildkitd, a builder for tests of builds elsewhere.
package buildkit

import _ "github.com/moby/buildkit/cmd/buildkitd"
