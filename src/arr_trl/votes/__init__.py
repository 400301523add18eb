from .agreement import TwoRaters, VotesAgreement, agreement_of, read_votes
from .book import Vote, VoteBook, VotingPair
from .server import VotingServer


__all__ = [
    "TwoRaters",
    "Vote",
    "VoteBook",
    "VotesAgreement",
    "VotingPair",
    "VotingServer",
    "agreement_of",
    "read_votes",
]
