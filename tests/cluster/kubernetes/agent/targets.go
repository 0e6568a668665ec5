package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"net"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	informers "k8s.io/client-go/informers/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

const scrapeAnnotation = "prometheus.io/scrape"

var notInLabelNames = regexp.MustCompile(`[^a-zA-Z0-9_]`)

// target is one entry of a Prometheus target file.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

type targets struct {
	pods    listers.PodLister
	file    string
	changed chan struct{}
}

func newTargets(pods informers.PodInformer, file string) *targets {
	t := &targets{pods: pods.Lister(), file: file, changed: make(chan struct{}, 1)}
	note := func() {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
	_, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { note() },
		UpdateFunc: func(any, any) { note() },
		DeleteFunc: func(any) { note() },
	})
	if err != nil {
		log.Fatalf("cannot watch pods: %v", err)
	}
	note()
	return t
}

// run writes the file whenever the targets differ from what it holds.
func (t *targets) run(ctx context.Context, every time.Duration) {
	var written []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.changed:
		}
		content, err := t.render()
		if err == nil && !bytes.Equal(content, written) {
			if err = replace(t.file, content); err == nil {
				written = content
			}
		}
		if err != nil {
			log.Printf("cannot write targets: %v", err)
		}
		time.Sleep(every)
	}
}

func (t *targets) render() ([]byte, error) {
	pods, err := t.pods.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	sort.Slice(pods, func(i, j int) bool {
		return pods[i].Namespace+"/"+pods[i].Name < pods[j].Namespace+"/"+pods[j].Name
	})
	found := []target{}
	for _, pod := range pods {
		if pod.Annotations[scrapeAnnotation] == "true" && pod.Status.PodIP != "" {
			found = append(found, targetsOf(pod)...)
		}
	}
	return json.MarshalIndent(found, "", " ")
}

// targetsOf gives a pod's targets as Prometheus' own discovery of pods does: one for each declared port, one without a
// port for a container that declares none, each with the same labels.
func targetsOf(pod *corev1.Pod) []target {
	common := map[string]string{
		"__meta_kubernetes_namespace":     pod.Namespace,
		"__meta_kubernetes_pod_name":      pod.Name,
		"__meta_kubernetes_pod_ip":        pod.Status.PodIP,
		"__meta_kubernetes_pod_ready":     readiness(pod),
		"__meta_kubernetes_pod_phase":     string(pod.Status.Phase),
		"__meta_kubernetes_pod_node_name": pod.Spec.NodeName,
		"__meta_kubernetes_pod_host_ip":   pod.Status.HostIP,
		"__meta_kubernetes_pod_uid":       string(pod.UID),
	}
	for _, owner := range pod.OwnerReferences {
		if owner.Controller != nil && *owner.Controller {
			common["__meta_kubernetes_pod_controller_kind"] = owner.Kind
			common["__meta_kubernetes_pod_controller_name"] = owner.Name
		}
	}
	add := func(prefix string, values map[string]string) {
		for key, value := range values {
			name := notInLabelNames.ReplaceAllString(key, "_")
			common["__meta_kubernetes_pod_"+prefix+"_"+name] = value
			common["__meta_kubernetes_pod_"+prefix+"present_"+name] = "true"
		}
	}
	add("label", pod.Labels)
	add("annotation", pod.Annotations)
	found := []target{}
	for _, container := range pod.Spec.Containers {
		with := func(address string, more map[string]string) {
			all := map[string]string{
				"__meta_kubernetes_pod_container_name":  container.Name,
				"__meta_kubernetes_pod_container_image": container.Image,
			}
			for _, values := range []map[string]string{common, more} {
				for key, value := range values {
					all[key] = value
				}
			}
			found = append(found, target{Targets: []string{address}, Labels: all})
		}
		for _, port := range container.Ports {
			number := strconv.Itoa(int(port.ContainerPort))
			with(net.JoinHostPort(pod.Status.PodIP, number), map[string]string{
				"__meta_kubernetes_pod_container_port_name":     port.Name,
				"__meta_kubernetes_pod_container_port_number":   number,
				"__meta_kubernetes_pod_container_port_protocol": string(port.Protocol),
			})
		}
		if len(container.Ports) == 0 {
			with(pod.Status.PodIP, nil)
		}
	}
	return found
}

func readiness(pod *corev1.Pod) string {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return strings.ToLower(string(condition.Status))
		}
	}
	return "unknown"
}

// replace writes a file so that a reader sees the old content or the new one, never a part.
func replace(path string, content []byte) error {
	part := path + ".part"
	if err := os.WriteFile(part, content, 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}
