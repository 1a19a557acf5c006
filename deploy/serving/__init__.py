"""A server of one model over HTTP: pictures in, labels, boxes or masks out."""
