// Ends the session of the page, as the server does when a token is removed
async () => {
	const { post } = await import("/page/session.js");
	await post("page/logout", {}, sessionStorage.getItem("trio-jobs.session"));
}
