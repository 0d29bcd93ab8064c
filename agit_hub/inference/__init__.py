"""Translation of any image: prediction, edits of attention, compositing, files and videos."""
