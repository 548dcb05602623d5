"""The varied style, from which detectors transfer to photographs."""
