//go:build !amd64

package train

func machineKernels() []namedKernel { return nil }
