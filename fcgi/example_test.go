package fcgi_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

func ExampleClient_Do() {
	address, stop := startApplication()
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	client, err := fcgi.Dial(ctx, "unix:"+address)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	var answer strings.Builder
	result, err := client.Do(ctx, &fcgi.Request{Close: true,
		Params: fcgi.Params{
			{Name: "REQUEST_METHOD", Value: "POST"},
			{Name: "REQUEST_URI", Value: "/upper"},
			{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
			{Name: "CONTENT_LENGTH", Value: "5"},
		},
		Stdin:  strings.NewReader("hello"),
		Stdout: &answer,
		Stderr: os.Stderr,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, body, _ := strings.Cut(answer.String(), "\r\n\r\n")
	fmt.Println(body, result.ProtocolStatus, result.AppStatus)
	// Output: HELLO REQUEST_COMPLETE 0
}
