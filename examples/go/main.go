// A client in Go: lists what runs, stops the query that has run longest, and reads an error.
//
//	go run . 127.0.0.1:50051 [USERNAME]
//
// The credentials for Atoti are taken from AUTHORIZATION ("Bearer ...", for example), or from the file that
// AUTHORIZATION_FILE names. ../README.md says how the definition is compiled.
package main

//go:generate buf generate ../../proto --path ../../proto/atoti

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "example/gen/atoti/queryhistory/v1"
)

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		arguments = []string{"127.0.0.1:50051"}
	}
	if err := run(arguments[0], arguments[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(address string, usernames []string) error {
	// Every call carries a deadline, which the bridge keeps, too, and credentials, which it hands to Atoti as they are.
	ctx, done := context.WithTimeout(context.Background(), 30*time.Second)
	defer done()
	if value, err := authorization(); err != nil {
		return err
	} else if value != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	bridge := pb.NewQueryHistoryServiceClient(connection)

	oldest, err := listRunning(ctx, bridge, usernames)
	if err != nil {
		return err
	}

	// Stop it, and wait until it has stopped. AllowFinished: that it ended meanwhile is as good.
	if oldest != nil {
		answer, err := bridge.CancelQuery(ctx, &pb.CancelQueryRequest{
			QueryId:       oldest.QueryId,
			Wait:          durationpb.New(10 * time.Second),
			Reason:        "has run longest",
			AllowFinished: true,
		})
		if err != nil {
			return err
		}
		fmt.Printf("cancel %s: %s\n", oldest.QueryId, answer.Outcome)
	}

	// An error says more than its code: why, whether Atoti may have been asked, whether a repeat may help.
	if _, err := bridge.CancelQuery(ctx, &pb.CancelQueryRequest{QueryId: "0"}); err != nil {
		failure := status.Convert(err)
		fmt.Printf("cancel 0: %s: %s\n", failure.Code(), failure.Message())
		for _, detail := range failure.Details() {
			if info, ok := detail.(*errdetails.ErrorInfo); ok {
				fmt.Printf("  %s, requestSent %s, retryable %s\n",
					info.Reason, info.Metadata["requestSent"], info.Metadata["retryable"])
			}
		}
	}
	return nil
}

// listRunning prints what runs, page by page, the newest start first, and returns the last: the oldest.
func listRunning(ctx context.Context, bridge pb.QueryHistoryServiceClient, usernames []string) (*pb.Query, error) {
	var oldest *pb.Query
	request := &pb.ListQueriesRequest{Filter: &pb.QueryFilter{
		Usernames: usernames,
		Statuses:  []pb.QueryStatus{pb.QueryStatus_QUERY_STATUS_RUNNING},
	}}
	for {
		page, err := bridge.ListQueries(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, oldest = range page.Queries {
			fmt.Printf("running: %s of %s\n", oldest.QueryId, oldest.Username)
		}
		if request.PageToken = page.NextPageToken; request.PageToken == "" {
			return oldest, nil
		}
	}
}

func authorization() (string, error) {
	if value := os.Getenv("AUTHORIZATION"); value != "" {
		return value, nil
	}
	if path := os.Getenv("AUTHORIZATION_FILE"); path != "" {
		text, err := os.ReadFile(path)
		return strings.TrimSpace(string(text)), err
	}
	return "", nil
}
