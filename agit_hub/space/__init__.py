"""The Space: translate images and edit attention in the browser, with endpoints for programs."""
