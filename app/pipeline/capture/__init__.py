"""What gives frames: cameras, their control, and the frame as it travels. Nothing here knows what is done with one."""
