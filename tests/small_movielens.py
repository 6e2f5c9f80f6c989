"""Writes a MovieLens-1M of our own, in which taste is easy to find."""

from __future__ import annotations

from pathlib import Path

import numpy as np

USERS, MOVIES = 60, 40


def write_movielens(folder: Path, films: int = MOVIES) -> Path:
    """60 users rate half of the films; they like those of their own parity."""
    random = np.random.default_rng(0)
    lines = []
    for user in range(1, USERS + 1):
        for movie in random.permutation(np.arange(1, films + 1))[: films // 2]:
            liked = user % 2 == movie % 2
            rating = int(random.integers(4, 6) if liked else random.integers(1, 4))
            lines.append(f"{user}::{movie}::{rating}::{len(lines)}")
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    users = [
        f"{u}::{'FM'[u % 2]}::{18 + u % 3}::{u % 5}::{10000 + u % 7:05d}"
        for u in range(1, USERS + 1)
    ]
    (folder / "users.dat").write_text("\n".join(users) + "\n")
    genres = ("Drama", "Action|War", "Comedy")
    movies = [
        f"{m}::Film {m} ({1980 + m % 9})::{genres[m % 3]}" for m in range(1, films + 1)
    ]
    (folder / "movies.dat").write_text("\n".join(movies) + "\n")
    return folder
