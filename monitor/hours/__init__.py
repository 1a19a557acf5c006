"""Hours: the captures of each closed hour, collected, judged and reported."""
