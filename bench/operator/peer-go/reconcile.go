package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/recorder"
)

// children are Trimtab's own for one object, with tokens where its name and uid belong.
type children struct {
	Name      string           `json:"name"`
	UID       string           `json:"uid"`
	ConfigMap corev1.ConfigMap `json:"configMap"`
	Job       batchv1.Job      `json:"job"`
}

func readChildren(path string) (children, error) {
	found := children{}
	content, err := os.ReadFile(path)
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(content, &found)
}

func (c children) childName(owner *FineTuneJob) string { return owner.Name + "-prepare" }

func (c children) metadata(template metav1.ObjectMeta, owner *FineTuneJob) metav1.ObjectMeta {
	made := *template.DeepCopy()
	c.fill(made.Labels, owner)
	c.fill(made.Annotations, owner)
	made.Name, made.Namespace = c.childName(owner), owner.Namespace
	return made
}

func (c children) fill(values map[string]string, owner *FineTuneJob) {
	for key, value := range values {
		values[key] = strings.ReplaceAll(value, c.Name, owner.Name)
	}
}

func (c children) configMap(owner *FineTuneJob) *corev1.ConfigMap {
	made := c.ConfigMap.DeepCopy()
	made.ObjectMeta = c.metadata(c.ConfigMap.ObjectMeta, owner)
	filled := strings.NewReplacer(c.Name, owner.Name, c.UID, string(owner.UID))
	for key, value := range made.Data {
		made.Data[key] = filled.Replace(value)
	}
	return made
}

func (c children) job(owner *FineTuneJob) *batchv1.Job {
	made := c.Job.DeepCopy()
	made.ObjectMeta = c.metadata(c.Job.ObjectMeta, owner)
	made.Spec.Template.ObjectMeta = c.metadata(c.Job.Spec.Template.ObjectMeta, owner)
	made.Spec.Template.Name, made.Spec.Template.Namespace = "", ""
	made.Spec.Suspend = &owner.Spec.Suspend
	for _, volume := range made.Spec.Template.Spec.Volumes {
		if volume.ConfigMap != nil && volume.Name == "run" {
			volume.ConfigMap.Name = c.childName(owner)
		}
	}
	return made
}

type reconciler struct {
	client.Client
	scheme   *runtime.Scheme
	recorder recorder.EventRecorder
	children children
}

func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	owner := &FineTuneJob{}
	if err := r.Get(ctx, request.NamespacedName, owner); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := r.haveConfigMap(ctx, owner); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.haveJob(ctx, owner); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.haveStatus(ctx, owner)
}

func (r *reconciler) haveConfigMap(ctx context.Context, owner *FineTuneJob) error {
	there := &corev1.ConfigMap{}
	key := client.ObjectKey{Namespace: owner.Namespace, Name: r.children.childName(owner)}
	if err := r.Get(ctx, key, there); !apierrors.IsNotFound(err) {
		return err
	}
	return r.create(ctx, owner, r.children.configMap(owner))
}

func (r *reconciler) haveJob(ctx context.Context, owner *FineTuneJob) error {
	there := &batchv1.Job{}
	key := client.ObjectKey{Namespace: owner.Namespace, Name: r.children.childName(owner)}
	err := r.Get(ctx, key, there)
	if apierrors.IsNotFound(err) {
		return r.create(ctx, owner, r.children.job(owner))
	}
	if err != nil || (there.Spec.Suspend != nil && *there.Spec.Suspend == owner.Spec.Suspend) {
		return err
	}
	before := there.DeepCopy()
	there.Spec.Suspend = &owner.Spec.Suspend
	return r.Patch(ctx, there, client.MergeFrom(before))
}

func (r *reconciler) create(ctx context.Context, owner *FineTuneJob, child client.Object) error {
	if err := controllerutil.SetControllerReference(owner, child, r.scheme); err != nil {
		return err
	}
	err := r.Create(ctx, child)
	if apierrors.IsAlreadyExists(err) {
		return nil // the cache lags behind our own write
	}
	return err
}

func (r *reconciler) haveStatus(ctx context.Context, owner *FineTuneJob) error {
	status := owner.DeepCopy().Status
	status.ObservedGeneration = owner.Generation
	reason, message := "Preparing", "data and base model are being resolved"
	suspended, why := metav1.ConditionFalse, "NotSuspended"
	if owner.Spec.Suspend {
		reason, message = "SuspendedOnRequest", "spec.suspend is true"
		suspended, why = metav1.ConditionTrue, reason
	}
	for _, each := range []metav1.Condition{
		{Type: "Complete", Status: metav1.ConditionFalse, Reason: "InProgress", Message: "not finished"},
		{Type: "Failed", Status: metav1.ConditionFalse, Reason: "NotFailed", Message: "has not failed"},
		{Type: "Suspended", Status: suspended, Reason: why, Message: "spec.suspend"},
		{Type: "Started", Status: metav1.ConditionFalse, Reason: reason, Message: message},
	} {
		each.ObservedGeneration = owner.Generation
		meta.SetStatusCondition(&status.Conditions, each)
	}
	if equality.Semantic.DeepEqual(status, owner.Status) {
		return nil
	}
	owner.Status = status
	if err := r.Status().Update(ctx, owner); err != nil {
		return err
	}
	r.recorder.Eventf(owner, nil, corev1.EventTypeNormal, reason, "Reconcile", "%s", message)
	return nil
}
