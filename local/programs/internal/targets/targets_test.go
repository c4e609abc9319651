package targets

import (
	"reflect"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func pod(change func(*core.Pod)) *core.Pod {
	made := &core.Pod{
		ObjectMeta: meta.ObjectMeta{
			Namespace:   "team",
			Name:        "gateway",
			Annotations: map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "9000"},
		},
		Spec: core.PodSpec{Containers: []core.Container{{
			Name: "main",
			Ports: []core.ContainerPort{
				{Name: "http", ContainerPort: 8080},
				{Name: "agent-metrics", ContainerPort: 9100},
			},
		}}},
		Status: core.PodStatus{PodIP: "10.0.0.7", Phase: core.PodRunning},
	}
	change(made)
	return made
}

func TestGroupsOf(t *testing.T) {
	plain := map[string]string{"namespace": "team", "pod": "gateway"}
	for name, test := range map[string]struct {
		change func(*core.Pod)
		want   []group
	}{
		"the annotated port is scraped once, whatever ports are declared": {
			change: func(*core.Pod) {},
			want:   []group{{Targets: []string{"10.0.0.7:9000"}, Labels: plain}},
		},
		"without a port, those called metrics are meant": {
			change: func(p *core.Pod) { delete(p.Annotations, "prometheus.io/port") },
			want: []group{{
				Targets: []string{"10.0.0.7:9100"},
				Labels:  map[string]string{"namespace": "team", "pod": "gateway", "container": "main"},
			}},
		},
		"path and scheme reach Prometheus": {
			change: func(p *core.Pod) {
				p.Annotations["prometheus.io/path"] = "/m"
				p.Annotations["prometheus.io/scheme"] = "https"
			},
			want: []group{{
				Targets: []string{"10.0.0.7:9000"},
				Labels: map[string]string{
					"namespace": "team", "pod": "gateway", "__metrics_path__": "/m", "__scheme__": "https",
				},
			}},
		},
		"a pod that does not ask is left alone": {
			change: func(p *core.Pod) { p.Annotations = nil },
			want:   []group{},
		},
		"a pod that ended is left alone, its address may be another's": {
			change: func(p *core.Pod) { p.Status.Phase = core.PodSucceeded },
			want:   []group{},
		},
		"a pod without an address is left alone": {
			change: func(p *core.Pod) { p.Status.PodIP = "" },
			want:   []group{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := groupsOf([]*core.Pod{pod(test.change)}); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}
