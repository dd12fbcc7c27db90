"""The live app: a webcam drives a portrait, in a window or without one, into a virtual camera."""
