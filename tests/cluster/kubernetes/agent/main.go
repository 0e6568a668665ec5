// Command agent does for the test cluster what add-ons do elsewhere: it writes the pods that ask to be scraped as a
// target file for Prometheus (Debian builds Prometheus without Kubernetes discovery), and answers names of Services.
package main

import (
	"context"
	"flag"
	"log"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// At most one write of the target file in this time, however many pods change at once.
const writeEvery = 200 * time.Millisecond

func main() {
	kubeconfig := flag.String("kubeconfig", "", "credentials for the API server")
	targetFile := flag.String("targets", "", "file of scrape targets to write")
	address := flag.String("dns", "", "address and port to answer names on")
	domain := flag.String("domain", "cluster.local", "domain of the cluster")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatalf("cannot read the kubeconfig: %v", err)
	}
	config.UserAgent = "trimtab-cluster-agent"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatalf("cannot make a client: %v", err)
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	targets := newTargets(factory.Core().V1().Pods(), *targetFile)
	names := newNames(factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices(), *domain)
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			log.Fatalf("the API server gave no list of %v", kind)
		}
	}
	if err := names.serve(ctx, *address); err != nil {
		log.Fatalf("cannot answer names on %s: %v", *address, err)
	}
	targets.run(ctx, writeEvery)
}
