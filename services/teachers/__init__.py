"""One way to ask a teacher, wherever it is: a deployment of the run's own cluster, our REST interface, or a
stock vLLM server.
"""

from services.teachers.handle import HandleTeacher
from services.teachers.interface import Teacher
from services.teachers.rest import RestTeacher
from services.teachers.stock import StockServerTeacher

__all__ = ["HandleTeacher", "RestTeacher", "StockServerTeacher", "Teacher"]
