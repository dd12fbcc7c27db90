"""What leaves the app: pictures are composed, presented and written. Nothing here can name a camera's frame."""
