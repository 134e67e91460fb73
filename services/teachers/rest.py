"""A teacher that is reached through our REST interface, with Arrow on the wire."""

import pyarrow as pa

from services.clients import AsyncTeacherClient
from services.teachers.interface import Teacher


class RestTeacher(Teacher):
    """Asks `AsyncTeacherClient`.

    Args:
        client: its limits are this teacher's.
    """

    def __init__(self, client: AsyncTeacherClient) -> None:
        self.client = client

    async def score(self, sequences: pa.Table) -> pa.Table:
        """See `Teacher.score`."""
        return await self.client.score(sequences)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()
