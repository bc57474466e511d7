"""How users rate items: what is learned of it, and what simpler models make of it.

rated.py      which ratings there are to learn from and to test on
baselines.py  the mean, and user and item biases
evaluate.py   how far predictions are off, beside those
"""
