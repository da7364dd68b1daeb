package auth

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"plinth.internal/middleware"
)

// Reason is why a call was refused. It is a label of metrics.
type Reason string

// The reasons. Those of the first group are UNAUTHENTICATED, those of the second
// PERMISSION_DENIED, the last one is UNAVAILABLE.
const (
	NoCredentials Reason = "no_credentials" // neither a token nor a certificate
	Certificate   Reason = "certificate"    // one that does not say who it is for
	Scheme        Reason = "scheme"         // something in authorization that is no bearer token
	TooLarge      Reason = "too_large"      // a token above MaxToken
	Malformed     Reason = "malformed"      // not a signed JWT, or without the claims that are needed
	Algorithm     Reason = "algorithm"      // one that the issuer may not use; "none" and HS256 among them
	UnknownIssuer Reason = "issuer"         // an issuer that is not configured
	UnknownKey    Reason = "key"            // a key that the issuer does not have
	Signature     Reason = "signature"      // it does not fit the key
	WrongAudience Reason = "audience"       // a token for somebody else
	Expired       Reason = "expired"        // its time is over
	NotYetValid   Reason = "not_yet_valid"  // its time has not come

	NoRule  Reason = "no_rule" // no rule is for the method
	Subject Reason = "subject" // the rule does not name the caller
	Scope   Reason = "scope"   // the token lacks a scope

	KeysUnavailable Reason = "keys_unavailable" // the issuer's keys were never had
)

// reasons say what each one means to the code and to the caller.
var reasons = map[Reason]struct {
	code codes.Code
	text string
}{
	NoCredentials: {codes.Unauthenticated, "the call needs a bearer token or a client certificate"},
	Certificate:   {codes.Unauthenticated, "the client certificate does not say who it is for"},
	Scheme:        {codes.Unauthenticated, "authorization must be Bearer and a token"},
	TooLarge:      {codes.Unauthenticated, "the token is too large"},
	Malformed:     {codes.Unauthenticated, "the token is not a signed JWT with the claims iss, sub, aud and exp"},
	Algorithm:     {codes.Unauthenticated, "the token's algorithm is not allowed"},
	UnknownIssuer: {codes.Unauthenticated, "the token's issuer is not known"},
	UnknownKey:    {codes.Unauthenticated, "the token's key is not known"},
	Signature:     {codes.Unauthenticated, "the token's signature is wrong"},
	WrongAudience: {codes.Unauthenticated, "the token is for another audience"},
	Expired:       {codes.Unauthenticated, "the token has expired"},
	NotYetValid:   {codes.Unauthenticated, "the token is not valid yet"},

	NoRule:  {codes.PermissionDenied, "no rule lets anybody call this"},
	Subject: {codes.PermissionDenied, "the caller may not call this"},
	Scope:   {codes.PermissionDenied, "the token lacks a scope that is needed"},

	KeysUnavailable: {codes.Unavailable, "the keys of the token's issuer are not there yet"},
}

// errorDomain is the domain of the google.rpc.ErrorInfo in refusals.
const errorDomain = "auth.plinth.internal"

// RefusalError is the error of a call that was refused. Its text has the details, for
// the log; its status, which the caller gets, has the reason and the rule only.
type RefusalError struct {
	// Reason is why.
	Reason Reason
	// Rule is the name of the rule for the method, "" for none.
	Rule string

	detail string
	scopes []string // that are needed
}

func refuse(reason Reason, rule, format string, args ...any) *RefusalError {
	return &RefusalError{Reason: reason, Rule: rule, detail: fmt.Sprintf(format, args...)}
}

// by names the rule.
func (r *RefusalError) by(rule *rule) *RefusalError {
	r.Rule = rule.name
	return r
}

// Error is the text of the status, and the details.
func (r *RefusalError) Error() string {
	if r.detail == "" {
		return r.message()
	}
	return r.message() + ": " + r.detail
}

func (r *RefusalError) message() string {
	text := reasons[r.Reason].text
	if r.Rule != "" {
		text += " (rule " + r.Rule + ")"
	}
	return text
}

// GRPCStatus is what the caller gets: with a google.rpc.ErrorInfo whose reason is
// the Reason in capitals.
func (r *RefusalError) GRPCStatus() *status.Status {
	s := status.New(reasons[r.Reason].code, r.message())
	info := &errdetails.ErrorInfo{Reason: strings.ToUpper(string(r.Reason)), Domain: errorDomain}
	if r.Rule != "" {
		info.Metadata = map[string]string{"rule": r.Rule}
	}
	if detailed, err := s.WithDetails(info); err == nil { // else the code and the text must do
		return detailed
	}
	return s
}

// challenge tells a caller over HTTP what to do about it - RFC 6750, section 3.
func (r *RefusalError) challenge(call *middleware.Call) {
	if !call.Kind.HTTP() {
		return
	}
	var value string
	switch {
	case r.Reason == NoCredentials || r.Reason == Certificate || r.Reason == Scheme:
		value = "Bearer"
	case reasons[r.Reason].code == codes.Unauthenticated:
		value = `Bearer error="invalid_token", error_description="` + reasons[r.Reason].text + `"`
	case r.Reason == Scope:
		value = `Bearer error="insufficient_scope", scope="` + strings.Join(r.scopes, " ") + `"`
	default:
		return
	}
	call.SetReply("WWW-Authenticate", value)
}

// maxQuoted bounds what of a caller's own words stands in errors.
const maxQuoted = 96

// quote shows something that a caller said.
func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "..."
	}
	return strconv.Quote(s)
}
