package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/fcgid/fcgid/internal/status"
)

// clientOf asks at an address of net.Dial.
func clientOf(network, address string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

// SendOrder has the daemon whose control socket is at path carry out an order, and
// returns what has become of it.
func SendOrder(ctx context.Context, path string, o status.Order) (*status.Reply, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/orders", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := clientOf("unix", path).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	reply := new(status.Reply)
	if err := json.NewDecoder(res.Body).Decode(reply); err != nil {
		return nil, fmt.Errorf("read its reply: %w", err)
	}
	if res.StatusCode != http.StatusOK && reply.Error == "" {
		reply.Error = "it answers " + res.Status
	}
	return reply, nil
}

// FetchStatus asks the server at an address of net.Dial.
func FetchStatus(ctx context.Context, network, address string) (*status.Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := clientOf(network, address).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var refused status.Reply
		if json.NewDecoder(res.Body).Decode(&refused) == nil && refused.Error != "" {
			return nil, errors.New(refused.Error)
		}
		return nil, fmt.Errorf("it answers %s", res.Status)
	}
	page := new(status.Page)
	if err := json.NewDecoder(res.Body).Decode(page); err != nil {
		return nil, fmt.Errorf("read its status: %w", err)
	}
	return page, nil
}
