"""A key that works while another window has the focus: on X11, by the desktop's portal on Wayland, and on Windows."""
