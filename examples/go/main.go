// A user's recommendations: recommend ADDRESS USER [SIZE].
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	tandem "example.com/recommend/gen/tandem/v1"
)

// The service config of ../service_config.json: a program has its own copy.
//
//go:embed service_config.json
var serviceConfig string

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, explain(err))
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: recommend ADDRESS USER [SIZE]")
	}
	size := 10
	if len(args) > 2 {
		parsed, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		size = parsed
	}
	client, closed, err := connect(args[0])
	if err != nil {
		return err
	}
	defer closed()
	timeout, err := time.ParseDuration(getenv("TIMEOUT", "2") + "s")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if key := os.Getenv("TANDEM_KEY"); key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
	}
	answer, err := client.Recommend(ctx, &tandem.RecommendRequest{
		UserId:     args[1],
		MaxResults: int32(size),
	})
	if err != nil {
		return err
	}
	for _, item := range answer.GetRecommendations() {
		fmt.Println(item.GetItemId())
	}
	return nil
}

func connect(address string) (tandem.RecommendationServiceClient, func() error, error) {
	transport := insecure.NewCredentials()
	if authority := os.Getenv("AUTHORITY"); authority != "" {
		tls, err := credentials.NewClientTLSFromFile(authority, "")
		if err != nil {
			return nil, nil, err
		}
		transport = tls
	}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
	)
	if err != nil {
		return nil, nil, err
	}
	return tandem.NewRecommendationServiceClient(connection), connection.Close, nil
}

// CODE REASON: message. The reason is for programs, and does not change.
func explain(err error) string {
	failed, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	reason := ""
	for _, detail := range failed.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason = info.GetReason()
		}
	}
	return fmt.Sprintf("%s %s: %s", codeName(failed.Code()), reason, failed.Message())
}

func getenv(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
