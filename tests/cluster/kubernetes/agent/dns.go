package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	coreinformers "k8s.io/client-go/informers/core/v1"
	discoveryinformers "k8s.io/client-go/informers/discovery/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
)

const timeToLive = 5

// names answers `<service>.<namespace>.svc.<domain>` with IPv4 addresses, as the specification of DNS for Services
// says: the cluster address, or for a headless Service its ready endpoints. Names outside the cluster do not exist.
type names struct {
	services corelisters.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	suffix   string
}

func newNames(services coreinformers.ServiceInformer, slices discoveryinformers.EndpointSliceInformer, domain string) *names {
	services.Informer()
	slices.Informer()
	return &names{services: services.Lister(), slices: slices.Lister(), suffix: ".svc." + domain + "."}
}

// addresses gives the addresses of a name, and whether the name exists.
func (n *names) addresses(name string) ([][4]byte, bool) {
	rest, inCluster := strings.CutSuffix(strings.ToLower(name), n.suffix)
	parts := strings.Split(rest, ".")
	if !inCluster || len(parts) != 2 {
		return nil, false
	}
	service, err := n.services.Services(parts[1]).Get(parts[0])
	if err != nil {
		if !apierrors.IsNotFound(err) {
			log.Printf("cannot look up %s: %v", name, err)
		}
		return nil, false
	}
	texts := []string{service.Spec.ClusterIP}
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		texts = n.endpoints(service)
	}
	found := [][4]byte{}
	for _, text := range texts {
		if address := net.ParseIP(text).To4(); address != nil {
			found = append(found, [4]byte(address))
		}
	}
	return found, true
}

func (n *names) endpoints(service *corev1.Service) []string {
	selector := labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service.Name})
	slices, err := n.slices.EndpointSlices(service.Namespace).List(selector)
	if err != nil {
		return nil
	}
	found := []string{}
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if ready || service.Spec.PublishNotReadyAddresses {
				found = append(found, endpoint.Addresses...)
			}
		}
	}
	return found
}

func (n *names) answer(request []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(request)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	addresses, exists := n.addresses(question.Name.String())
	response := dnsmessage.Header{
		ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired,
	}
	if !exists {
		response.RCode = dnsmessage.RCodeNameError
	}
	builder := dnsmessage.NewBuilder(nil, response)
	builder.EnableCompression()
	if err := errors.Join(builder.StartQuestions(), builder.Question(question), builder.StartAnswers()); err != nil {
		return nil, err
	}
	if question.Type == dnsmessage.TypeA {
		head := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: timeToLive}
		for _, address := range addresses {
			if err := builder.AResource(head, dnsmessage.AResource{A: address}); err != nil {
				return nil, err
			}
		}
	}
	return builder.Finish()
}

func (n *names) serve(ctx context.Context, address string) error {
	datagrams, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	connections, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() {
		datagrams.Close()
		connections.Close()
	})
	go n.serveDatagrams(datagrams)
	go n.serveConnections(connections)
	return nil
}

func (n *names) serveDatagrams(socket net.PacketConn) {
	buffer := make([]byte, 4096)
	for {
		size, peer, err := socket.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if response, err := n.answer(buffer[:size]); err == nil {
			_, _ = socket.WriteTo(response, peer)
		}
	}
}

func (n *names) serveConnections(socket net.Listener) {
	for {
		connection, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go n.serveConnection(connection)
		}
	}
}

func (n *names) serveConnection(connection net.Conn) {
	defer connection.Close()
	for {
		_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
		var size uint16
		if binary.Read(connection, binary.BigEndian, &size) != nil {
			return
		}
		request := make([]byte, size)
		if _, err := io.ReadFull(connection, request); err != nil {
			return
		}
		response, err := n.answer(request)
		if err != nil {
			return
		}
		framed := binary.BigEndian.AppendUint16(nil, uint16(len(response)))
		if _, err := connection.Write(append(framed, response...)); err != nil {
			return
		}
	}
}
