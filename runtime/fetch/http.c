/* libcurl, for whole pages and for files that resume. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "runtime/fetch/private.h"

enum { TRIES = 5, CONNECT_SECONDS = 15, STALL_SECONDS = 60 };

static void start_curl(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

/* The certificates that the user's other tools are told to trust. */
static const char *certificates(void)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *v = getenv(names[i]);
        if (v && *v && access(v, R_OK) == 0)
            return v;
    }
    return NULL;
}

static CURL *new_handle(const struct http_request *r, char *words)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    CURL *c = curl_easy_init();
    if (!c)
        return NULL;
    words[0] = 0;
    curl_easy_setopt(c, CURLOPT_URL, r->url);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "ingot/" INGOT_VERSION);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https,http");
    curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, strncmp(r->url, "https:", 6) ? "https,http" : "https");
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_SECONDS);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    if (certificates())
        curl_easy_setopt(c, CURLOPT_CAINFO, certificates());
    if (r->token) { /* curl keeps a bearer to the first host; a plain header would follow redirects */
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, r->token);
    }
    return c;
}

const char *http_shown(struct shown_url *out, const char *url)
{
    const char *host = strstr(url, "://"), *path = host ? strchr(host + 3, '/') : NULL;
    const char *at = host ? memrchr(host + 3, '@', path ? (size_t)(path - host - 3) : strlen(host + 3)) : NULL;
    snprintf(out->text, sizeof out->text, "%.*s%s", at ? (int)(host + 3 - url) : 0, url, at ? at + 1 : url);
    return out->text;
}

static enum status network_failed(const struct http_request *r, CURLcode code, const char *words, struct error *err)
{
    return error_set(err, STATUS_NETWORK, "%s: %s", HTTP_SHOWN(r->url), words[0] ? words : curl_easy_strerror(code));
}

static enum status http_failed(const struct http_request *r, long code, struct error *err)
{
    return error_set(err, code == 404 || code == 410 ? STATUS_NOT_FOUND : STATUS_NETWORK, "%s answers %ld%s", HTTP_SHOWN(r->url), code,
                     code == 401 || code == 403 ? "; is HF_TOKEN set and allowed to read it?" : "");
}

/* ---- pages ------------------------------------------------------------------------------------------------------------ */

struct page {
    struct str *out;
    size_t limit;
};

static size_t add_to_page(char *data, size_t size, size_t count, void *context)
{
    struct page *p = context;
    if (p->out->size + size * count > p->limit)
        return 0;
    str_add(p->out, data, size * count);
    return p->out->failed ? 0 : size * count;
}

enum status http_page(const struct http_request *r, size_t limit, struct str *out, struct error *err)
{
    char words[CURL_ERROR_SIZE];
    CURL *c = new_handle(r, words);
    if (!c)
        return error_memory(err, "a download");
    struct page page = {out, limit};
    struct curl_slist *headers = NULL;
    if (r->accept) {
        char line[200];
        snprintf(line, sizeof line, "Accept: %s", r->accept);
        headers = curl_slist_append(NULL, line);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    }
    curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, add_to_page);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &page);
    CURLcode code = curl_easy_perform(c);
    long answer = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &answer);
    curl_slist_free_all(headers);
    curl_easy_cleanup(c);
    if (code != CURLE_OK)
        return network_failed(r, code, words, err);
    return answer >= 400 ? http_failed(r, answer, err) : STATUS_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

struct download {
    const struct http_request *r;
    CURL *curl;
    int fd;
    uint64_t have;  /* bytes in the file */
    uint64_t start; /* of them when this try began */
    bool checked;   /* the answer's status was looked at */
    int cause;      /* errno of a failed write */
    double shown;
    bool shown_end;
};

static size_t add_to_file(char *data, size_t size, size_t count, void *context)
{
    struct download *d = context;
    size_t left = size * count;
    if (!d->checked) {
        long answer = 0;
        curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &answer);
        if (answer >= 400)
            return 0;
        d->checked = true;
    }
    while (left) {
        ssize_t n = write(d->fd, data, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            d->cause = errno;
            return 0;
        }
        data += n;
        left -= (size_t)n;
        d->have += (uint64_t)n;
    }
    return size * count;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    struct download *d = context;
    const struct ingot_model_options *o = d->r->options;
    (void)up_total, (void)up_now;
    double time = clock_seconds();
    bool done = total > 0 && now == total;
    if (o && o->progress && d->checked && !d->shown_end && (done ? d->shown > 0 : time - d->shown >= 0.1)) {
        d->shown = time;
        d->shown_end = done;
        o->progress(o->progress_context, d->r->what, d->start + (uint64_t)now, total > 0 ? d->start + (uint64_t)total : 0);
    }
    return 0;
}

/* One try. STATUS_OK when the answer came whole. *again: trying again may help. */
static enum status download(struct download *d, bool *again, const char *path, struct error *err)
{
    char words[CURL_ERROR_SIZE];
    *again = false;
    d->curl = new_handle(d->r, words);
    if (!d->curl)
        return error_memory(err, "a download");
    d->start = d->have;
    d->checked = false;
    d->cause = 0;
    curl_easy_setopt(d->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)d->have);
    curl_easy_setopt(d->curl, CURLOPT_WRITEFUNCTION, add_to_file);
    curl_easy_setopt(d->curl, CURLOPT_WRITEDATA, d);
    curl_easy_setopt(d->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(d->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(d->curl, CURLOPT_XFERINFODATA, d);
    CURLcode code = curl_easy_perform(d->curl);
    long answer = 0;
    curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &answer);
    curl_easy_cleanup(d->curl);
    if (d->cause)
        return error_set(err, STATUS_FAILED, "%s: cannot write: %s", path, error_errno(d->cause));
    if (answer == 416) /* nothing is missing; the checksum decides */
        return STATUS_OK;
    if (answer >= 400) {
        *again = answer >= 500 || answer == 429;
        return http_failed(d->r, answer, err);
    }
    if (code == CURLE_OK)
        return STATUS_OK;
    if (code == CURLE_RANGE_ERROR && d->have && !ftruncate(d->fd, 0) && lseek(d->fd, 0, SEEK_SET) == 0) {
        d->have = 0; /* no ranges here: from the start */
        *again = true;
        return network_failed(d->r, code, words, err);
    }
    *again = d->have > d->start || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING;
    return network_failed(d->r, code, words, err);
}

enum status file_sha256(const char *path, char out[65], struct error *err)
{
    unsigned char buffer[1 << 16], digest[32];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_set(err, STATUS_FAILED, "%s: cannot open: %s", path, error_errno(errno));
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool good = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    ssize_t n;
    while (good && (n = read(fd, buffer, sizeof buffer)) != 0)
        good = n > 0 ? EVP_DigestUpdate(hash, buffer, (size_t)n) : errno == EINTR;
    good = good && EVP_DigestFinal_ex(hash, digest, NULL);
    EVP_MD_CTX_free(hash);
    close(fd);
    if (!good)
        return error_set(err, STATUS_FAILED, "%s: cannot read", path);
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return STATUS_OK;
}

enum status http_file(const struct http_request *r, const char *path, const char *sha256, struct error *err)
{
    struct stat st;
    struct download d = {.r = r, .fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
    if (d.fd < 0 || fstat(d.fd, &st) || lseek(d.fd, 0, SEEK_END) < 0) {
        int cause = errno;
        if (d.fd >= 0)
            close(d.fd);
        return error_set(err, STATUS_FAILED, "%s: cannot create: %s", path, error_errno(cause));
    }
    d.have = (uint64_t)st.st_size;
    bool again = true;
    enum status status = STATUS_OK;
    for (int try = 0; again && try < TRIES; try++) {
        if (try)
            sleep(1u << (try - 1));
        status = download(&d, &again, path, err);
    }
    if (!status && fsync(d.fd))
        status = error_set(err, STATUS_FAILED, "%s: cannot write to disk: %s", path, error_errno(errno));
    close(d.fd);
    if (status)
        return status;
    char found[65];
    if ((status = file_sha256(path, found, err)))
        return status;
    if (strcmp(found, sha256) != 0) {
        unlink(path);
        return error_set(err, STATUS_NETWORK, "%s: what arrived has sha256 %s where %s is right; it was removed, try again", HTTP_SHOWN(r->url), found,
                         sha256);
    }
    return STATUS_OK;
}
