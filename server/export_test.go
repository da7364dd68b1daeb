package server

import "net/http"

// AdminHandler is what the admin listener serves.
func AdminHandler(s *Server) http.Handler { return s.admin.Handler }
