package server

// hold returns the settings in force for a request that begins, and what is called
// when nothing of it is left.
func (s *Server) hold() (settings *Settings, release func()) {
	for {
		settings := s.settings.Load()
		if settings.Hold == nil {
			return settings, func() {}
		}
		release := settings.Hold()
		if s.settings.Load() == settings {
			return settings, release // Update has to wait for it
		}
		release() // they were replaced in between, and may be given up by now
	}
}
