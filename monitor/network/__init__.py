"""The served network itself, over a sample of pictures: its embeddings and its attributions."""
