"""Judges for the exercises of notebooks/: one module for each notebook, each with a `check`.

    from packetwalk.teach.packet import check
    check(1, net, 64)

A judge holds no answer: it walks the student's own network and compares, so the answer follows the network.
"""
