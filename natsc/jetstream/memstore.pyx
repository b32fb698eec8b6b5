"""A stream's messages in memory: records as on disk, one allocation each, found through pages of pointers."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memmove

from natsc.jetstream.layout cimport RECORD_MISSING, RECORD_OK, record_size, record_view, record_write, stored_t
from natsc.jetstream.msgstore cimport STORE_CLOSED, MsgStore

cdef extern from *:
    """
    /* glibc joins small chunks that were freed when the next large one is: the pause is for all of them, so let it be often. */
    static void join_free_chunks(void) { void *volatile large = malloc(66000); free(large); }
    """
    void join_free_chunks() noexcept nogil

cdef enum:
    PAGES_MAX = 0x7FFFFFFF


cdef void free_page(recpage_t* page) noexcept nogil:
    cdef int i
    if page.records != NULL:
        for i in range(PAGE_RECORDS):
            free(page.records[i])
        free(page.records)
        join_free_chunks()


cdef class MemStore(MsgStore):
    def __cinit__(self):
        self.is_file = False

    def __dealloc__(self):
        self.bury()
        while self.reclaim(PAGES_MAX):
            pass

    def close(self) -> None:
        """Give the memory back, with reclaim."""
        self.purge_all()
        self.error = STORE_CLOSED

    cdef void bury(self) noexcept nogil:
        """All records are gone."""
        cdef grave_t* grave = <grave_t*>malloc(sizeof(grave_t)) if self.pages != NULL else NULL
        cdef uint64_t i
        if grave != NULL:
            grave[0] = grave_t(self.pages, self.head, self.end, self.graves)
            self.graves = grave
        elif self.pages != NULL:
            for i in range(self.head, self.end):
                free_page(&self.pages[i])
            free(self.pages)
        self.pages = NULL
        self.head = self.end = self.cap = 0
        self.unclaimed = self.graves != NULL

    cdef bint reclaim(self, Py_ssize_t pages) noexcept nogil:
        cdef grave_t* grave = self.graves
        while grave != NULL and pages > 0:
            if grave.end > grave.head:
                # The newest first: they lie at the heap's end, which then goes back to the system bit by bit.
                grave.end -= 1
                free_page(&grave.pages[grave.end])
                pages -= 1
                continue
            self.graves = grave.next
            free(grave.pages)
            free(grave)
            grave = self.graves
        self.unclaimed = grave != NULL
        return self.unclaimed

    cdef recpage_t* find(self, uint64_t seq) noexcept nogil:
        """The page of a sequence; NULL where there is none."""
        cdef uint64_t no = seq >> PAGE_BITS
        cdef uint64_t lo = self.head
        cdef uint64_t hi = self.end
        cdef uint64_t mid
        if lo == hi or no < self.pages[lo].no:
            return NULL
        # Without gaps its place follows from the first page's number.
        mid = lo + (no - self.pages[lo].no)
        if mid >= hi or self.pages[mid].no != no:
            while lo < hi:
                mid = (lo + hi) >> 1
                if self.pages[mid].no < no:
                    lo = mid + 1
                else:
                    hi = mid
            mid = lo
        if mid == self.end or self.pages[mid].no != no or self.pages[mid].records == NULL:
            return NULL
        return &self.pages[mid]

    cdef bint put(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                  const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil:
        cdef uint64_t no = seq >> PAGE_BITS
        cdef recpage_t* page
        cdef recpage_t* grown
        cdef char* rec = <char*>malloc(record_size(subject_len, hdr_len, msg_len))
        if rec == NULL:
            return False
        if self.end == self.head or self.pages[self.end - 1].no != no:
            if self.end == self.cap:
                if self.head > self.cap >> 1:
                    memmove(self.pages, self.pages + self.head, (self.end - self.head) * sizeof(recpage_t))
                    self.end -= self.head
                    self.head = 0
                else:
                    grown = <recpage_t*>realloc(self.pages, (self.cap * 2 + 4) * sizeof(recpage_t))
                    if grown == NULL:
                        free(rec)
                        return False
                    self.pages = grown
                    self.cap = self.cap * 2 + 4
            page = &self.pages[self.end]
            page.no = no
            page.count = 0
            page.records = NULL
            self.end += 1
        page = &self.pages[self.end - 1]
        if page.records == NULL:
            page.records = <char**>calloc(PAGE_RECORDS, sizeof(char*))
            if page.records == NULL:
                free(rec)
                return False
        record_write(rec, seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len)
        page.records[seq & (PAGE_RECORDS - 1)] = rec
        page.count += 1
        return True

    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil:
        cdef recpage_t* page = self.find(seq)
        cdef char* rec = page.records[seq & (PAGE_RECORDS - 1)] if page != NULL else NULL
        if rec == NULL:
            out.subject = NULL
            return RECORD_MISSING
        record_view(rec, out)
        return RECORD_OK

    cdef void erase(self, uint64_t seq) noexcept nogil:
        cdef recpage_t* page = self.find(seq)
        cdef int i = <int>(seq & (PAGE_RECORDS - 1))
        if page == NULL or page.records[i] == NULL:
            return
        free(page.records[i])
        page.records[i] = NULL
        page.count -= 1
        if page.count == 0:
            free(page.records)
            join_free_chunks()
            page.records = NULL
            while self.head < self.end and self.pages[self.head].records == NULL:
                self.head += 1

    cdef void erase_range(self, uint64_t first, uint64_t last) noexcept nogil:
        cdef uint64_t seq
        for seq in range(first, last + 1):
            self.erase(seq)

    cdef void erase_all(self) noexcept nogil:
        self.bury()

    cdef void erase_but(self, const stored_t* m) noexcept nogil:
        cdef recpage_t* page = self.find(m.seq)
        cdef recpage_t* pages = <recpage_t*>malloc(sizeof(recpage_t))
        cdef char** records = <char**>calloc(PAGE_RECORDS, sizeof(char*))
        cdef int i = <int>(m.seq & (PAGE_RECORDS - 1))
        if pages == NULL or records == NULL:
            free(pages)
            free(records)
            self.erase_range(self.pages[self.head].no << PAGE_BITS, m.seq - 1)
            return
        records[i] = page.records[i]
        page.records[i] = NULL
        pages[0] = recpage_t(page.no, 1, records)
        self.bury()
        self.pages = pages
        self.end = self.cap = 1
