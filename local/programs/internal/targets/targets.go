// Package targets tells Prometheus which pods to scrape, in a file that it
// watches: the Prometheus of Debian cannot ask a Kubernetes API itself.
//
// A pod asks to be scraped by the customary annotations prometheus.io/scrape,
// /port, /path and /scheme. Without a port, its declared ports called metrics
// (or ending in -metrics) are meant.
package targets

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	prefix = "prometheus.io/"
	// settle gathers the many changes of a pod's start into one writing.
	settle = 300 * time.Millisecond
	// again is when a file that could not be written is tried once more.
	again = 5 * time.Second
)

// group is one entry of a Prometheus target file.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// Main runs until it is told to end.
func Main(args []string) error {
	flags := flag.NewFlagSet("scrape-targets", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	file := flags.String("file", "", "the file to keep up to date")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *kubeconfig == "" || *file == "" {
		return errors.New("both -kubeconfig and -file are needed")
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return run(ctx, client, *file)
}

func run(ctx context.Context, client kubernetes.Interface, file string) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // one is noted already
		}
	}
	_, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { note() },
		UpdateFunc: func(any, any) { note() },
		DeleteFunc: func(any) { note() },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		time.Sleep(settle)
		if err := update(pods.Lister(), file); err != nil {
			klog.ErrorS(err, "Trying again", "file", file)
			time.AfterFunc(again, note)
		}
	}
}

func update(lister listers.PodLister, file string) error {
	pods, err := lister.List(labels.Everything())
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(groupsOf(pods), "", "  ")
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, body) {
		return nil
	}
	staged := file + ".new"
	if err := os.WriteFile(staged, body, 0o644); err != nil {
		return err
	}
	return os.Rename(staged, file)
}

func groupsOf(pods []*core.Pod) []group {
	groups := []group{}
	for _, pod := range pods {
		if !wants(pod) {
			continue
		}
		if port := pod.Annotations[prefix+"port"]; port != "" {
			groups = append(groups, groupOf(pod, port, ""))
			continue
		}
		for _, container := range pod.Spec.Containers {
			for _, port := range container.Ports {
				if port.Name == "metrics" || strings.HasSuffix(port.Name, "-metrics") {
					number := strconv.Itoa(int(port.ContainerPort))
					groups = append(groups, groupOf(pod, number, container.Name))
				}
			}
		}
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.Targets[0], b.Targets[0]) })
	return groups
}

// wants leaves out pods that ended: their address may be another's by now.
func wants(pod *core.Pod) bool {
	return pod.Annotations[prefix+"scrape"] == "true" &&
		pod.Status.PodIP != "" &&
		(pod.Status.Phase == core.PodPending || pod.Status.Phase == core.PodRunning)
}

func groupOf(pod *core.Pod, port, container string) group {
	named := map[string]string{"namespace": pod.Namespace, "pod": pod.Name}
	if container != "" {
		named["container"] = container
	}
	for annotation, label := range map[string]string{"path": "__metrics_path__", "scheme": "__scheme__"} {
		if value := pod.Annotations[prefix+annotation]; value != "" {
			named[label] = value
		}
	}
	return group{Targets: []string{net.JoinHostPort(pod.Status.PodIP, port)}, Labels: named}
}
