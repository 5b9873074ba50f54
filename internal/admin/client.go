package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"

	"github.com/fcgid/fcgid/internal/status"
)

// FetchStatus asks the server at an address of net.Dial.
func FetchStatus(ctx context.Context, network, address string) (*status.Page, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", res.Status)
	}
	page := new(status.Page)
	if err := json.NewDecoder(res.Body).Decode(page); err != nil {
		return nil, fmt.Errorf("read its status: %w", err)
	}
	return page, nil
}
