package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "trimtab.dev", Version: "v1alpha1"}

// FineTuneJob holds what the bench's manifest says; the peer looks at suspend and status alone.
type FineTuneJob struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              FineTuneJobSpec   `json:"spec"`
	Status            FineTuneJobStatus `json:"status,omitempty"`
}

type FineTuneJobSpec struct {
	BaseModel struct {
		URI      string `json:"uri,omitempty"`
		Revision string `json:"revision,omitempty"`
	} `json:"baseModel"`
	Dataset struct {
		Inline struct {
			Sources []Source `json:"sources"`
			Task    string   `json:"task,omitempty"`
			Columns struct {
				Prompt     string `json:"prompt,omitempty"`
				Completion string `json:"completion,omitempty"`
			} `json:"columns,omitempty"`
		} `json:"inline"`
	} `json:"dataset"`
	Hyperparameters struct {
		Epochs       float64 `json:"epochs,omitempty"`
		LearningRate float64 `json:"learningRate,omitempty"`
		BatchSize    int     `json:"batchSize,omitempty"`
		MaxLength    int     `json:"maxLength,omitempty"`
		Seed         int     `json:"seed,omitempty"`
	} `json:"hyperparameters,omitempty"`
	Output struct {
		Model string `json:"model"`
	} `json:"output"`
	Suspend bool `json:"suspend,omitempty"`
}

type Source struct {
	URI string `json:"uri"`
}

type FineTuneJobStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
}

type FineTuneJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FineTuneJob `json:"items"`
}

// DeepCopyInto is what controller-gen would write.
func (j *FineTuneJob) DeepCopyInto(out *FineTuneJob) {
	*out = *j
	j.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Spec.Dataset.Inline.Sources = append([]Source(nil), j.Spec.Dataset.Inline.Sources...)
	out.Status.Conditions = make([]metav1.Condition, len(j.Status.Conditions))
	for i := range j.Status.Conditions {
		j.Status.Conditions[i].DeepCopyInto(&out.Status.Conditions[i])
	}
}

func (j *FineTuneJob) DeepCopy() *FineTuneJob {
	out := &FineTuneJob{}
	j.DeepCopyInto(out)
	return out
}

func (j *FineTuneJob) DeepCopyObject() runtime.Object { return j.DeepCopy() }

func (l *FineTuneJobList) DeepCopyObject() runtime.Object {
	out := &FineTuneJobList{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = make([]FineTuneJob, len(l.Items))
	for i := range l.Items {
		l.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) {
	scheme.AddKnownTypes(groupVersion, &FineTuneJob{}, &FineTuneJobList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
}
