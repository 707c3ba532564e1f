"""The fast path of GetOffers: request bytes to response bytes in compiled loops.

    scan      reads a usual request; scan_session its session
    answer    finds the request's surface, decides by kernels/decide.py, and writes the response
    wire      writes the bytes of a response
    buffers   one thread's memory for all of that

The long way, for all other requests, is server/offer_service.py.
"""
