/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be known of a model by its settings alone: there is no gateway here, and nothing is
 * loaded or asked. Whether a server has embeddings is its protocol's to say, whether it has them of
 * that model only its own; so what is not known is said to be possible.
 */
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/protocol.h"
#include "gateway/provider.h"

struct settings_of {
	int (*get)(void *arg, const char *file, struct buf *out);
	void *arg;
};

/* NUL-terminated; "" where there is none. */
static int read_value(const struct settings_of *s, const char *file, struct buf *out)
{
	int r = s->get(s->arg, file, out);
	return r ? r : buf_append(out, "", 1);
}

static int of_server(const struct settings_of *s, struct model_powers *out)
{
	struct buf name = {0};
	int r = read_value(s, "protocol", &name);
	const struct protocol *p = NULL;
	if (r == 0 && *name.data)
		p = protocol_find(name.data, strlen(name.data));
	out->embeds = !p || p->embed_path;
	buf_free(&name);
	return r;
}

static int of_file(
	const struct settings_of *s, const char *path, struct model_powers *out, struct err *err)
{
	struct buf family = {0};
	bool embeds = false;
	int r = read_value(s, "template", &family);
	r = r ? r : local_check(path, *family.data ? family.data : NULL, &embeds, err);
	if (r == 0)
		*out = (struct model_powers){.answers = !embeds, .embeds = embeds};
	buf_free(&family);
	return r;
}

int model_powers(int (*get)(void *arg, const char *file, struct buf *out), void *arg,
	struct model_powers *out, struct err *err)
{
	const struct settings_of s = {get, arg};
	struct buf endpoint = {0}, path = {0};
	*out = (struct model_powers){.answers = true, .embeds = true};
	int r = read_value(&s, "endpoint", &endpoint);
	r = r ? r : read_value(&s, "path", &path);
	if (r == 0 && *endpoint.data)
		r = of_server(&s, out);
	else if (r == 0 && *path.data)
		r = of_file(&s, path.data, out, err);
	buf_free(&endpoint);
	buf_free(&path);
	return r;
}
