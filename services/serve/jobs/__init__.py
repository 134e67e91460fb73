"""Work beyond a request's time limit: handed in, looked after, fetched; it outlives the process that has it.

In: a request as a service's main route takes it. Out: its number, later its answer.
May be called by the services, which say how a request is worked on (`work.Work`).

    work      a request in parts, each of them worked on within a request's limits
    job       its request, finished parts and answer as files; who works on it holds its lease
    store     all jobs of a service
    files     written whole or not at all
    lease     the lock of a file
    room      how many there may be, and how much they may take
    turns     whose job is next
    attempts  at which part a process ended, so that no job ends one after the other
    worker    takes jobs in and up
    at_work   one that was taken up: one part after the other
    answer    the parts' answer, put together one after the other
    sending   an answer on its way to its client, or a part of it
    disk      files are touched in threads
    errors    why there is no job, or no answer
    routes    POST and GET /v1/jobs, GET and DELETE /v1/jobs/{id}, GET /v1/jobs/{id}/result
"""
