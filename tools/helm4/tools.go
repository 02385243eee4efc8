//go:build tools

// What is compiled from this module: helm 4, for tests beside the helm 3 that is on PATH.
package helm4

import _ "helm.sh/helm/v4/cmd/helm"
