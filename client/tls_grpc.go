package client

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const protoGRPC = "h2"

// transportCredentials are those of the connections to one service, as its
// settings are when a connection is made.
type transportCredentials struct{ service *service }

func (c transportCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, err := c.service.secured(ctx, raw, protoGRPC)
	if err != nil {
		return nil, nil, err
	}
	if r, ok := credentials.ClientHandshakeInfoFromContext(ctx).Attributes.Value(restKey{}).(*rest); ok {
		r.connected(conn)
	}
	secured, ok := conn.(*securedConn)
	if !ok {
		return insecure.NewCredentials().ClientHandshake(ctx, authority, conn)
	}
	state := secured.ConnectionState()
	if state.NegotiatedProtocol != protoGRPC {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("make TLS with %s at %v: it does not offer HTTP/2 (ALPN h2): look whether this is its port for gRPC", c.service.name, raw.RemoteAddr())
	}
	return conn, credentials.TLSInfo{
		State: state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, nil
}

func (c transportCredentials) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("these credentials are for clients")
}

// Info is what grpc goes by before a connection is made.
func (c transportCredentials) Info() credentials.ProtocolInfo {
	if c.service.settings("").TLS.protects() {
		return credentials.ProtocolInfo{SecurityProtocol: "tls"}
	}
	return insecure.NewCredentials().Info()
}

// Clone returns the same: there is nothing to change.
func (c transportCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName is a part of the interface that nobody may use any more.
func (c transportCredentials) OverrideServerName(string) error {
	return errors.New("the server's name is in the settings")
}
