"""One way to ask a teacher, wherever it is: a deployment of the run's own cluster, our REST interface, or a
stock vLLM server.

A teacher by handle, for which Serve is imported, is in `handle`.
"""

from services.clients.teachers.here import compare_here
from services.clients.teachers.interface import Teacher
from services.clients.teachers.policy import Compared, MismatchError, PolicyFacts, compare_model
from services.clients.teachers.rest import RestTeacher
from services.clients.teachers.stock import StockServerTeacher
from services.clients.teachers.tokens import teacher_tokens
from services.clients.teachers.verification import SignalError

__all__ = [
    "Compared",
    "MismatchError",
    "PolicyFacts",
    "RestTeacher",
    "SignalError",
    "StockServerTeacher",
    "Teacher",
    "compare_here",
    "compare_model",
    "teacher_tokens",
]
