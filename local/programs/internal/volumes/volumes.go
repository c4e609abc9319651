// Package volumes makes a folder on the node for each claim of the local storage
// class, and removes it when the claim is gone. It keeps no state beside the
// cluster's own objects and the folders.
package volumes

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

const (
	// claimAnnotation is where the control plane asks a provisioner for a volume.
	claimAnnotation = "volume.kubernetes.io/storage-provisioner"
	// volumeAnnotation tells the control plane to leave removal to us.
	volumeAnnotation = "pv.kubernetes.io/provisioned-by"
	resync           = 10 * time.Minute
)

type key struct {
	kind, namespace, name string
}

type controller struct {
	client      kubernetes.Interface
	claims      listers.PersistentVolumeClaimLister
	volumes     listers.PersistentVolumeLister
	queue       workqueue.TypedRateLimitingInterface[key]
	folder      string
	node        string
	provisioner string
}

// Main runs until it is told to end.
func Main(args []string) error {
	flags := flag.NewFlagSet("volume-provisioner", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	folder := flags.String("folder", "", "where the volumes' folders are")
	node := flags.String("node", "", "name of the node that has the folder")
	provisioner := flags.String("provisioner", "", "name in the storage classes served")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *kubeconfig == "" || *folder == "" || *node == "" || *provisioner == "" {
		return errors.New("each of -kubeconfig, -folder, -node and -provisioner is needed")
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
	return run(ctx, client, *folder, *node, *provisioner)
}

func run(ctx context.Context, client kubernetes.Interface, folder, node, provisioner string) error {
	factory := informers.NewSharedInformerFactory(client, resync)
	claims := factory.Core().V1().PersistentVolumeClaims()
	volumes := factory.Core().V1().PersistentVolumes()
	c := &controller{
		client:      client,
		claims:      claims.Lister(),
		volumes:     volumes.Lister(),
		queue:       workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]()),
		folder:      folder,
		node:        node,
		provisioner: provisioner,
	}
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"claim": claims.Informer(), "volume": volumes.Informer(),
	} {
		if _, err := informer.AddEventHandler(c.enqueue(kind)); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	for _, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil // told to end before it began
		}
	}
	go func() {
		<-ctx.Done()
		c.queue.ShutDown()
	}()
	for c.next(ctx) {
	}
	return nil
}

func (c *controller) enqueue(kind string) cache.ResourceEventHandler {
	add := func(object any) {
		name, err := cache.DeletionHandlingObjectToName(object)
		if err != nil {
			klog.ErrorS(err, "Passed over an event", "kind", kind)
			return
		}
		c.queue.Add(key{kind, name.Namespace, name.Name})
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    add,
		UpdateFunc: func(_, object any) { add(object) },
	}
}

func (c *controller) next(ctx context.Context) bool {
	k, quit := c.queue.Get()
	if quit {
		return false
	}
	defer c.queue.Done(k)
	var err error
	if k.kind == "claim" {
		err = c.provision(ctx, k.namespace, k.name)
	} else {
		err = c.reclaim(ctx, k.name)
	}
	if err != nil {
		klog.ErrorS(err, "Trying again", "kind", k.kind, "namespace", k.namespace, "name", k.name)
		c.queue.AddRateLimited(k)
		return true
	}
	c.queue.Forget(k)
	return true
}

func (c *controller) provision(ctx context.Context, namespace, name string) error {
	claim, err := c.claims.PersistentVolumeClaims(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Spec.VolumeName != "" || claim.Annotations[claimAnnotation] != c.provisioner {
		return nil
	}
	if mode := claim.Spec.VolumeMode; mode != nil && *mode == core.PersistentVolumeBlock {
		klog.InfoS("The local storage class has no block volumes", "claim", klog.KObj(claim))
		return nil
	}
	volume := volumeFor(claim, c.folder, c.node, c.provisioner)
	if err := makeFolder(volume.Spec.Local.Path); err != nil {
		return err
	}
	_, err = c.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // our own, from before the caches caught up: the name holds the claim's uid
	}
	if err == nil {
		klog.InfoS("Made a volume", "claim", klog.KObj(claim), "folder", volume.Spec.Local.Path)
	}
	return err
}

// reclaim removes the folder before the object, so that a crash in between is
// taken up again.
func (c *controller) reclaim(ctx context.Context, name string) error {
	volume, err := c.volumes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isOursToRemove(volume, c.provisioner) {
		return nil
	}
	if filepath.Dir(volume.Spec.Local.Path) != filepath.Clean(c.folder) {
		return fmt.Errorf("volume %s lies outside %s and is left alone", name, c.folder)
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return err
	}
	err = c.client.CoreV1().PersistentVolumes().Delete(ctx, name, meta.DeleteOptions{
		Preconditions: &meta.Preconditions{UID: &volume.UID},
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		klog.InfoS("Removed a volume", "volume", name, "folder", volume.Spec.Local.Path)
	}
	return err
}

func isOursToRemove(volume *core.PersistentVolume, provisioner string) bool {
	return volume.Annotations[volumeAnnotation] == provisioner &&
		volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete &&
		volume.Status.Phase == core.VolumeReleased &&
		volume.Spec.Local != nil
}

// makeFolder opens the folder to every user: pods run under user ids that
// nobody knows beforehand, and umask would narrow the mode given to Mkdir.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	return os.Chmod(path, 0o777)
}

func volumeFor(claim *core.PersistentVolumeClaim, folder, node, provisioner string) *core.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	mode := core.PersistentVolumeFilesystem
	var class string
	if claim.Spec.StorageClassName != nil {
		class = *claim.Spec.StorageClassName
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{volumeAnnotation: provisioner},
		},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			ClaimRef:                      reference(claim),
			NodeAffinity:                  onlyOn(node),
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimDelete,
			PersistentVolumeSource: core.PersistentVolumeSource{
				Local: &core.LocalVolumeSource{Path: filepath.Join(folder, name)},
			},
			StorageClassName: class,
			VolumeMode:       &mode,
		},
	}
}

func reference(claim *core.PersistentVolumeClaim) *core.ObjectReference {
	return &core.ObjectReference{
		APIVersion: "v1",
		Kind:       "PersistentVolumeClaim",
		Namespace:  claim.Namespace,
		Name:       claim.Name,
		UID:        types.UID(claim.UID),
	}
}

func onlyOn(node string) *core.VolumeNodeAffinity {
	return &core.VolumeNodeAffinity{Required: &core.NodeSelector{
		NodeSelectorTerms: []core.NodeSelectorTerm{{
			MatchExpressions: []core.NodeSelectorRequirement{{
				Key:      core.LabelHostname,
				Operator: core.NodeSelectorOpIn,
				Values:   []string{node},
			}},
		}},
	}}
}
