/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The address of the HTTP front end: read, and listened on. What connections inherit from the
 * listening socket is set here, once: no delay for small frames, and probes, which find out that a
 * machine at the other end has gone without a word.
 *
 * A name may have several addresses; the first of IPv4 is taken where there is one, because that is
 * what is typed most: `localhost` is 127.0.0.1 then, and not ::1 alone.
 *
 * Any thread; no state.
 */
#include "gateway/shim_listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/gateway_shim.h"

/* ---- reading ---- */

static int refuse(const char *address, struct err *err)
{
	return err_set(err, -EINVAL,
		"http=%.80s: must be HOST:PORT, [IPV6]:PORT or :PORT, like 127.0.0.1:8080; port 0 "
		"is any that is free",
		address);
}

static bool is_port(const char *text)
{
	size_t n = strlen(text);
	return n && n <= 5 && strspn(text, "0123456789") == n && strtoul(text, NULL, 10) <= 65535;
}

int shim_listen_parse(const char *address, struct shim_listen_at *out, struct err *err)
{
	*out = (struct shim_listen_at){.bracketed = *address == '['};
	const char *host = address + out->bracketed;
	const char *colon = strrchr(address, ':');
	const char *end = out->bracketed ? strchr(address, ']') : colon;
	size_t n = end && end >= host ? (size_t)(end - host) : sizeof out->host;
	bool is = colon && n < sizeof out->host && is_port(colon + 1);
	if (is && out->bracketed)
		is = end + 1 == colon && n && strspn(host, "0123456789abcdefABCDEF:.") >= 2;
	else if (is) /* more than one colon is IPv6 without its brackets */
		is = !memchr(host, ':', n) && strcspn(host, " \t/@?#[]") >= n;
	if (!is)
		return refuse(address, err);
	memcpy(out->host, host, n);
	snprintf(out->port, sizeof out->port, "%s", colon + 1);
	return 0;
}

int shim_address_check(const char *address, struct err *err)
{
	struct shim_listen_at at;
	return shim_listen_parse(address, &at, err);
}

/* ---- listening ---- */

static int resolve(const char *address, const struct shim_listen_at *at, struct addrinfo **out,
	struct err *err)
{
	struct addrinfo hints = {.ai_family = at->bracketed ? AF_INET6 : AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV | (at->bracketed ? AI_NUMERICHOST : 0)};
	int e = getaddrinfo(*at->host ? at->host : NULL, at->port, &hints, out);
	if (e == 0)
		return 0;
	*out = NULL;
	return err_set(err, e == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL, "http=%s: %s", address,
		e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e));
}

static void set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof value);
}

/* new: -1 with errno. */
static int listen_on(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	if (a->ai_family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* all addresses are IPv4's, too */
	if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
		return fd;
	int e = errno;
	close(fd);
	errno = e;
	return -1;
}

static const struct addrinfo *first_of(const struct addrinfo *list, int family)
{
	while (list && list->ai_family != family)
		list = list->ai_next;
	return list;
}

/* Of all addresses IPv6's first, which has IPv4's with it; of a name IPv4's. */
static int listen_first(const struct addrinfo *list, bool all)
{
	static const int families[] = {AF_INET, AF_INET6};
	int fd = -1;
	for (size_t i = 0; fd < 0 && i < 2; i++) {
		const struct addrinfo *a = first_of(list, families[all ? 1 - i : i]);
		if (a)
			fd = listen_on(a);
		if (fd < 0 && a && errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
			return -1;
	}
	return fd;
}

static bool is_loopback(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >>
			       24 ==
		       127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

static int name_of(int fd, char *name, size_t size, bool *open)
{
	struct sockaddr_storage a = {0};
	socklen_t n = sizeof a;
	char host[64], port[8];
	if (getsockname(fd, (struct sockaddr *)(void *)&a, &n) < 0 ||
		getnameinfo((struct sockaddr *)(void *)&a, n, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV))
		return -EADDRNOTAVAIL;
	snprintf(name, size, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
	*open = !is_loopback(&a);
	return 0;
}

int shim_listen_open(
	const char *address, int *fd, char *name, size_t size, bool *open, struct err *err)
{
	struct shim_listen_at at;
	struct addrinfo *list = NULL;
	int r = shim_listen_parse(address, &at, err);
	r = r ? r : resolve(address, &at, &list, err);
	if (r < 0)
		return r;
	*fd = listen_first(list, !*at.host);
	r = *fd < 0 ? -errno : name_of(*fd, name, size, open);
	freeaddrinfo(list);
	if (r < 0 && *fd >= 0)
		close(*fd);
	if (r < 0)
		*fd = -1;
	return r < 0 ? err_set(err, r, "http=%s: cannot listen there: %s", address, strerror(-r))
		     : 0;
}
