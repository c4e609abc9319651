// Command trimtab-kube is every Kubernetes program of the local cluster in one
// file: the programs share nine tenths of their code, so one binary builds in a
// fraction of the time and takes a fraction of the disk.
//
// The program is chosen by the name the binary is called under (a link called
// kubectl is kubectl) or else by the first argument.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs name time zones; the host may have no database of them

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubectl against clusters other than ours
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"trimtab.dev/local/programs/internal/certs"
	"trimtab.dev/local/programs/internal/sandboxes"
	"trimtab.dev/local/programs/internal/targets"
	"trimtab.dev/local/programs/internal/volumes"
)

// programs run with os.Args already cut down to their own name and arguments.
var programs = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          cobraProgram(apiserver.NewAPIServerCommand),
	"kube-controller-manager": cobraProgram(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              cobraProgram(proxy.NewProxyCommand),
	"kube-scheduler":          cobraProgram(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubectl":                 runKubectl,
	"kubelet":                 cobraProgram(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"make-certificates":       ownProgram(certs.Main),
	"remove-sandboxes":        ownProgram(sandboxes.Main),
	"scrape-targets":          ownProgram(targets.Main),
	"volume-provisioner":      ownProgram(volumes.Main),
}

func main() {
	program, args, ok := choose(os.Args)
	if !ok {
		names := slices.Sorted(maps.Keys(programs))
		fmt.Fprintf(os.Stderr, "name one of these programs: %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Args = args
	program()
}

func choose(args []string) (program func(), rest []string, ok bool) {
	if program, ok = programs[filepath.Base(args[0])]; ok {
		return program, args, true
	}
	if len(args) > 1 {
		program, ok = programs[args[1]]
		return program, args[1:], ok
	}
	return nil, nil, false
}

func cobraProgram(command func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(command())) }
}

func ownProgram(main func(args []string) error) func() {
	return func() {
		if err := main(os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[0], err)
			os.Exit(1)
		}
	}
}

func runKubectl() {
	// The verbosity must be known before the command is built: building it
	// already looks for plugins and reads .kuberc.
	if _, err := logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
}
