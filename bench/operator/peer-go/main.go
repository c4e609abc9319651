// The peer of bench/operator: what Trimtab's operator does for a new FineTuneJob and for a change of
// `suspend`, as a controller-runtime operator of the usual form.
package main

import (
	"flag"
	"os"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	// -kubeconfig is controller-runtime's own.
	path := flag.String("children", "", "file with the children of one object")
	namespace := flag.String("lease-namespace", "default", "where the lease is")
	resync := flag.Duration("resync", 10*time.Hour, "period after which all objects are looked at again")
	flag.Parse()
	ctrl.SetLogger(zap.New())
	if err := run(*path, *namespace, *resync); err != nil {
		ctrl.Log.Error(err, "ended")
		os.Exit(1)
	}
}

func run(path, namespace string, resync time.Duration) error {
	templates, err := readChildren(path)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	addToScheme(scheme)
	config := ctrl.GetConfigOrDie()
	config.QPS = -1 // no limit on the client's side: ours has none either
	managed := cache.ByObject{
		Label: labels.SelectorFromSet(labels.Set{"app.kubernetes.io/managed-by": "trimtab"}),
	}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Metrics:                       metricsserver.Options{BindAddress: "0"},
		LeaderElection:                true,
		LeaderElectionID:              "peer-go",
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		Cache: cache.Options{
			SyncPeriod: &resync,
			ByObject:   map[client.Object]cache.ByObject{&corev1.ConfigMap{}: managed, &batchv1.Job{}: managed},
		},
	})
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(manager).
		For(&FineTuneJob{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&batchv1.Job{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 10}).
		Complete(&reconciler{
			Client:   manager.GetClient(),
			scheme:   scheme,
			recorder: manager.GetEventRecorder("peer-go"),
			children: templates,
		})
	if err != nil {
		return err
	}
	return manager.Start(ctrl.SetupSignalHandler())
}
