// Package sandboxes takes every pod off the node through the container runtime.
// The runtime itself then undoes mounts, addresses and processes, which is surer
// than hunting for them from outside.
package sandboxes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	cri "k8s.io/cri-api/pkg/apis"
	remote "k8s.io/cri-client/pkg"
)

const (
	callTimeout = 20 * time.Second
	allTimeout  = 60 * time.Second
	// atOnce is small because each removal runs several processes.
	atOnce = 8
)

// Main takes the runtime's socket.
func Main(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: remove-sandboxes SOCKET")
	}
	ctx, cancel := context.WithTimeout(context.Background(), allTimeout)
	defer cancel()
	runtime, err := remote.NewRemoteRuntimeService(ctx, "unix://"+args[0], callTimeout, nil, false)
	if err != nil {
		return fmt.Errorf("connect to the container runtime: %w", err)
	}
	return removeAll(ctx, runtime)
}

func removeAll(ctx context.Context, runtime cri.RuntimeService) error {
	pods, err := runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return fmt.Errorf("list the pods: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, pod := range pods {
		group.Go(func() error {
			name := pod.GetMetadata().GetNamespace() + "/" + pod.GetMetadata().GetName()
			if err := runtime.StopPodSandbox(ctx, pod.GetId()); err != nil {
				return fmt.Errorf("stop %s: %w", name, err)
			}
			if err := runtime.RemovePodSandbox(ctx, pod.GetId()); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}
