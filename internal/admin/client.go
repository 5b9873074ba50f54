package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/status"
)

// maxAnswer is the size of an answer. That of a daemon with many requests is some megabytes.
const maxAnswer = 256 << 20

// clientOf asks at an address of net.Dial, where an owner has to be, if one is given.
func clientOf(network, address string, owner []uint32) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if err := isOf(conn, owner); err != nil {
				conn.Close()
				return nil, err
			}
			return conn, nil
		},
	}}
}

// isOf is an error if another than the owner is at the other end of a connection.
func isOf(conn net.Conn, owner []uint32) error {
	if len(owner) == 0 {
		return nil
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("who answers there is not known")
	}
	peer, err := listen.PeerOf(unixConn)
	if err == nil && !slices.Contains(owner, peer.Uid) {
		err = fmt.Errorf("who answers there is not the socket's owner, but uid %d", peer.Uid)
	}
	return err
}

// decode reads an answer. Of an owner whom nobody has named, its text is cleaned.
func decode(r io.Reader, into any, owner []uint32) error {
	err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(into)
	if len(owner) > 0 {
		clean(reflect.ValueOf(into))
	}
	return err
}

// clean makes all text in a value such that no terminal acts on it.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clean(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Map: // all of status are of numbers, by a name that has a meaning or none
		for _, key := range v.MapKeys() {
			if key.Kind() == reflect.String && status.Printable(key.String()) != key.String() {
				v.SetMapIndex(key, reflect.Value{})
			}
		}
	case reflect.String:
		if v.CanSet() {
			v.SetString(status.Printable(v.String()))
		}
	}
}

// SendOrder has the daemon whose control socket is at path carry out an order, and
// returns what has become of it. If an owner is given, only that user's daemon is asked.
func SendOrder(ctx context.Context, path string, o status.Order, owner ...uint32) (*status.Reply, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/orders", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := clientOf("unix", path, owner).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	reply := new(status.Reply)
	if err := decode(res.Body, reply, owner); err != nil {
		return nil, fmt.Errorf("read its reply: %w", err)
	}
	if res.StatusCode != http.StatusOK && reply.Error == "" {
		reply.Error = "it answers " + status.Printable(res.Status)
	}
	return reply, nil
}

// FetchStatus asks the server at an address of net.Dial. If an owner is given, only that user's.
func FetchStatus(ctx context.Context, network, address string, owner ...uint32) (*status.Page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := clientOf(network, address, owner).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var refused status.Reply
		if decode(res.Body, &refused, owner) == nil && refused.Error != "" {
			return nil, errors.New(refused.Error)
		}
		return nil, fmt.Errorf("it answers %s", status.Printable(res.Status))
	}
	page := new(status.Page)
	if err := decode(res.Body, page, owner); err != nil {
		return nil, fmt.Errorf("read its status: %w", err)
	}
	return page, nil
}
