// A gRPC-to-REST bridge made of vanguard-go and the standard library's reverse proxy, for the conformance suite.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	descriptors := flag.String("descriptors", "", "descriptor set with the service and its imports")
	service := flag.String("service", "", "full name of the service")
	upstream := flag.String("upstream", "", "URL of the REST server")
	limit := flag.Duration("limit", 6*time.Second, "how long the REST server may take to begin its answer")
	flag.Parse()
	if err := serve(*descriptors, *service, *upstream, *limit); err != nil {
		log.Fatal(err)
	}
}

func serve(descriptors, service, upstream string, limit time.Duration) error {
	schema, err := load(descriptors, service)
	if err != nil {
		return err
	}
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(target) },
		Transport: &http.Transport{
			ResponseHeaderTimeout: limit,
			// As many as there are calls at once, for the benchmarks: a connection for each call would cost most.
			MaxIdleConnsPerHost: 4096,
			DisableCompression:  true,
		},
		ErrorLog: log.New(os.Stderr, "proxy: ", 0),
	}
	transcoder, err := vanguard.NewTranscoder([]*vanguard.Service{
		vanguard.NewServiceWithSchema(
			schema, proxy,
			vanguard.WithTargetProtocols(vanguard.ProtocolREST),
			vanguard.WithTargetCodecs(vanguard.CodecJSON),
			vanguard.WithNoTargetCompression(),
		),
	})
	if err != nil {
		return err
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("listening %s\n", listener.Addr())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: transcoder, Protocols: protocols}
	return server.Serve(listener)
}

// load reads a service from a descriptor set.
func load(path, service string) (protoreflect.ServiceDescriptor, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(content, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	schema, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", service)
	}
	return schema, nil
}
