"""What comes in: snapshots of labelled images, formats, splits, transforms, loaders."""
