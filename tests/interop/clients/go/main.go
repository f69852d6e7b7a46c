// The matrix client of grpc-go. ../README.md says what it reads and prints.
package main

//go:generate buf generate ../../../../proto --path ../../../../proto/atoti

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "matrix/gen/atoti/queryhistory/v1"
)

func main() {
	if err := run(os.Args[1], words(os.Args[2:])); err != nil {
		log.Fatal(err)
	}
}

func words(texts []string) map[string]string {
	split := map[string]string{}
	for _, text := range texts {
		name, value, _ := strings.Cut(text, "=")
		split[name] = value
	}
	return split
}

func run(target string, arguments map[string]string) error {
	connection, err := connect(target, arguments)
	if err != nil {
		return err
	}
	defer connection.Close()

	var calls sync.WaitGroup
	stops := map[string]context.CancelFunc{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		asked := words(strings.Split(lines.Text(), "\t"))
		if asked["do"] == "Stop" {
			stops[asked["call"]]()
			continue
		}
		ctx, stop := context.WithCancel(context.Background())
		stops[asked["id"]] = stop
		calls.Go(func() { one(ctx, connection, asked) })
	}
	calls.Wait()
	return nil
}

func connect(target string, arguments map[string]string) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if ca := arguments["ca"]; ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{RootCAs: x509.NewCertPool()}
		config.RootCAs.AppendCertsFromPEM(pem)
		if cert := arguments["cert"]; cert != "" {
			pair, err := tls.LoadX509KeyPair(cert, arguments["key"])
			if err != nil {
				return nil, err
			}
			config.Certificates = []tls.Certificate{pair}
		}
		transport = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if authority := arguments["authority"]; authority != "" {
		options = append(options, grpc.WithAuthority(authority))
	}
	return grpc.NewClient(target, options...)
}

var out sync.Mutex

func tell(id string, told ...string) {
	clean := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
	line := "id=" + id
	for at := 0; at < len(told); at += 2 {
		line += "\t" + told[at] + "=" + clean.Replace(told[at+1])
	}
	out.Lock()
	defer out.Unlock()
	fmt.Println(line)
}

// one makes a call, from its line to its end.
func one(ctx context.Context, connection *grpc.ClientConn, asked map[string]string) {
	began := time.Now()
	if text := asked["timeout_ms"]; text != "" {
		milliseconds, _ := strconv.Atoi(text)
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, time.Duration(milliseconds)*time.Millisecond)
		defer done()
	}
	for _, header := range [][2]string{{"authorization", "authorization"}, {"x-request-id", "request_id"}} {
		if value := asked[header[1]]; value != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, header[0], value)
		}
	}
	if text := asked["pad"]; text != "" {
		bytes, _ := strconv.Atoi(text)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-pad", strings.Repeat("x", bytes))
	}
	var header, trailer metadata.MD
	options := []grpc.CallOption{
		grpc.Header(&header), grpc.Trailer(&trailer), grpc.WaitForReady(asked["wait_for_ready"] == "true"),
	}
	id := asked["id"]
	err := call(ctx, connection, asked, func(message string) { tell(id, "message", message) }, options)

	failure := status.Convert(err)
	told := []string{"code", code.Code(failure.Code()).String()}
	if err == nil {
		told = append(told, "answered", strings.Join(header.Get("x-request-id"), ","))
	} else {
		told = append(append(told, "text", failure.Message()), details(failure)...)
		if pushback := trailer.Get("grpc-retry-pushback-ms"); len(pushback) > 0 {
			told = append(told, "pushback", pushback[0])
		}
	}
	tell(id, append(told, "ms", strconv.FormatInt(time.Since(began).Milliseconds(), 10))...)
}

// details tells what the details of an error say, each under its name in the README.
func details(failure *status.Status) []string {
	var told []string
	for _, detail := range failure.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			told = append(told, "reason", detail.Reason, "domain", detail.Domain,
				"requestSent", detail.Metadata["requestSent"], "retryable", detail.Metadata["retryable"])
		case *errdetails.RequestInfo:
			told = append(told, "request", detail.RequestId)
		case *errdetails.ResourceInfo:
			told = append(told, "resource", detail.ResourceName)
		case *errdetails.BadRequest:
			told = append(told, "field", detail.FieldViolations[0].Field)
		case *errdetails.RetryInfo:
			told = append(told, "retry_ms", strconv.FormatInt(detail.RetryDelay.AsDuration().Milliseconds(), 10))
		}
	}
	return told
}

func call(
	ctx context.Context, connection *grpc.ClientConn, asked map[string]string, tell func(string),
	options []grpc.CallOption,
) error {
	bridge := pb.NewQueryHistoryServiceClient(connection)
	query := asked["query_id"]
	var wait *durationpb.Duration
	if text := asked["wait"]; text != "" {
		seconds, _ := strconv.Atoi(text)
		wait = durationpb.New(time.Duration(seconds) * time.Second)
	}
	filter := &pb.QueryFilter{}
	if user := asked["user"]; user != "" {
		filter.Usernames = []string{user}
	}
	switch asked["do"] {
	case "CancelQuery":
		answer, err := bridge.CancelQuery(ctx, &pb.CancelQueryRequest{QueryId: query, Wait: wait}, options...)
		if err != nil {
			return err
		}
		tell(fmt.Sprint(answer.Outcome, " ", answer.GetQuery().GetQueryId(), " ", answer.GetQuery().GetStatus()))
	case "CancelQueries":
		stream, err := bridge.CancelQueries(ctx, &pb.CancelQueriesRequest{Filter: filter, Wait: wait}, options...)
		if err != nil {
			return err
		}
		return each(stream, func(answer *pb.CancelQueriesResponse) {
			reason := ""
			for _, detail := range status.FromProto(answer.Error).Details() {
				if info, ok := detail.(*errdetails.ErrorInfo); ok {
					reason = info.Reason
				}
			}
			tell(fmt.Sprint(answer.Query.QueryId, " ", answer.Outcome, " ", reason))
		})
	case "CancelAllQueries":
		answer, err := bridge.CancelAllQueries(ctx, &pb.CancelAllQueriesRequest{Wait: wait}, options...)
		if err != nil {
			return err
		}
		tell(fmt.Sprint(answer.Outcome, " ", answer.GetStillRunning()))
	case "GetQuery":
		answer, err := bridge.GetQuery(ctx, &pb.GetQueryRequest{QueryId: query}, options...)
		if err != nil {
			return err
		}
		read := answer.Query
		tell(fmt.Sprint(read.QueryId, " ", read.Status, " ", read.Type, " ", read.Username))
	case "ListQueries":
		for request := (&pb.ListQueriesRequest{Filter: filter, PageSize: 2}); ; {
			page, err := bridge.ListQueries(ctx, request, options...)
			if err != nil {
				return err
			}
			line := strconv.FormatInt(page.TotalSize, 10)
			for _, read := range page.Queries {
				line += " " + read.QueryId
			}
			tell(line)
			if request.PageToken = page.NextPageToken; request.PageToken == "" {
				return nil
			}
		}
	case "WatchQuery":
		stream, err := bridge.WatchQuery(ctx, &pb.WatchQueryRequest{QueryId: query}, options...)
		if err != nil {
			return err
		}
		return each(stream, func(answer *pb.WatchQueryResponse) {
			tell(fmt.Sprint(answer.Query.QueryId, " ", answer.Query.Status))
		})
	case "GetQueryPlan":
		answer, err := bridge.GetQueryPlan(ctx, &pb.GetQueryPlanRequest{QueryId: query}, options...)
		if err != nil {
			return err
		}
		tell(answer.PlanJson)
	case "DeleteQuery":
		if _, err := bridge.DeleteQuery(ctx, &pb.DeleteQueryRequest{QueryId: query}, options...); err != nil {
			return err
		}
		tell("deleted")
	case "DeleteQueries":
		if _, err := bridge.DeleteQueries(ctx, &pb.DeleteQueriesRequest{Filter: filter}, options...); err != nil {
			return err
		}
		tell("deleted")
	case "GetServerInfo":
		info, err := bridge.GetServerInfo(ctx, &pb.GetServerInfoRequest{}, options...)
		if err != nil {
			return err
		}
		tell(fmt.Sprint(info.GetApiInstalled(), " ", info.Credentials, " ", info.ServerVersion))
	case "Health":
		request := &healthpb.HealthCheckRequest{Service: asked["service"]}
		answer, err := healthpb.NewHealthClient(connection).Check(ctx, request, options...)
		if err != nil {
			return err
		}
		tell(answer.Status.String())
	case "Reflection":
		return reflection(ctx, connection, asked["version"], tell, options)
	default:
		return fmt.Errorf("no such call: %s", asked["do"])
	}
	return nil
}

// each hands on what a stream brings, until its end.
func each[Answer any](stream grpc.ServerStreamingClient[Answer], tell func(*Answer)) error {
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		tell(answer)
	}
}

func reflection(
	ctx context.Context, connection *grpc.ClientConn, version string, tell func(string), options []grpc.CallOption,
) error {
	if version == "v1alpha" {
		stream, err := alphapb.NewServerReflectionClient(connection).ServerReflectionInfo(ctx, options...)
		if err != nil {
			return err
		}
		ask := &alphapb.ServerReflectionRequest_ListServices{}
		if err := stream.Send(&alphapb.ServerReflectionRequest{MessageRequest: ask}); err != nil {
			return err
		}
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, service := range answer.GetListServicesResponse().GetService() {
			tell(service.Name)
		}
		return stream.CloseSend()
	}
	stream, err := reflectionpb.NewServerReflectionClient(connection).ServerReflectionInfo(ctx, options...)
	if err != nil {
		return err
	}
	ask := &reflectionpb.ServerReflectionRequest_ListServices{}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: ask}); err != nil {
		return err
	}
	answer, err := stream.Recv()
	if err != nil {
		return err
	}
	for _, service := range answer.GetListServicesResponse().GetService() {
		tell(service.Name)
	}
	return stream.CloseSend()
}
