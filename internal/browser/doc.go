// Package browser looks at the pages of a running service as a person does: with
// a browser. It is tests only, in a module of its own, so that what drives the
// browser is in nobody else's build.
package browser
